"""Exported models at work: ONNX Runtime, predictions, latency. No torch."""
