"""Losses: one value per record or finer, with their equation, range, unit and blindness."""
