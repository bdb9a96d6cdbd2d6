"""Steps from a record to a record: conditioning, resampling, windows."""
