"""Measuring what was trained here, and models from elsewhere."""
