"""Experiments on a batch: what half precision really does to this model's gradients."""
