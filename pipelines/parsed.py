"""Importing this parses the library's sources, so that every task forked later finds the address of its code."""

from lorefuse.core.closure import parse_all

parse_all()
