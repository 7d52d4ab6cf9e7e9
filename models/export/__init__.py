"""Trained scorers as ONNX."""
