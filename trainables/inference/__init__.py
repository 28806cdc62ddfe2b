"""Runs exported models: ONNX Runtime, predictions, latency. No torch."""
