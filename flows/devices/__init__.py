"""Where stages run: device slots of this machine, and the task runner (threads or Ray)."""
