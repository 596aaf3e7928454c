"""Recipes for what the project can make itself."""
