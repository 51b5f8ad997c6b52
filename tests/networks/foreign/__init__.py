"""Networks that nobody here wrote, or as strangers write them, and a reference that owes scratchcard nothing."""
