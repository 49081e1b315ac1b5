"""FLOOR 1. Where prices come from: the genai-prices catalogue and local overrides, compiled to integers."""
