"""Parsers of particular data sets, each a plug-in that the configuration names as `module:function`."""
