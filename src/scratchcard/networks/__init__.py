"""Networks: which of their weights can be cut, the subnetworks that are trained, what they cost, and the papers' models."""
