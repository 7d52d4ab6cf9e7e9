"""A page on which the events of a table, or of a search, are looked at: linked histograms and scatter plots, which are brushed."""
