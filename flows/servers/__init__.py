"""The server of `cclm ui`, and what every server of this project asks for."""
