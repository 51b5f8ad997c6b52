"""Rows in, sentences and pictures out; torch is never imported here."""
