"""Prototypes of the Windows API, one file for each DLL and nothing else in them."""
