"""Data recipes: one file per kind of training set."""
