"""Does the background describe the spectra, alone and beside a signal, and what do other families say?"""
