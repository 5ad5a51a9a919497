"""Parsers of specific datasets, which the configuration names as `module:function`."""
