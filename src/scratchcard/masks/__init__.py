"""Masks: boolean tensors in, boolean tensors out. Knows no modules and no files."""
