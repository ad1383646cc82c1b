"""One file for each screen: keys and data. What a screen shows is drawn by the pure functions of `views`."""
