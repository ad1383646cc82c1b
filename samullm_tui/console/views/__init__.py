"""What each screen shows: pure functions of its data and its size, to lines."""
