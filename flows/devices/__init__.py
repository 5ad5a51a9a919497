"""Where stages run: device slots, and the task runner (threads or Ray)."""
