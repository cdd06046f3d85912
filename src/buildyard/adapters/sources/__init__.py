"""Lay sources into workspaces: git repositories through a mirror cache, and uploaded folders."""
