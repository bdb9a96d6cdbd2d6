"""A system on archives: picks, classes, features and searches of files, folders and stores of any size."""
