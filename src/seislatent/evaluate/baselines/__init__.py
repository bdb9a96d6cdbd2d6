"""Classical methods that every claim is judged beside."""
