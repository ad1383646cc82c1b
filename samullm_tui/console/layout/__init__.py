"""Pure functions from data to lines of styled text. Nothing here knows Textual."""
