"""Networks: which weights can be cut, the subnetworks that are trained, what they cost, the papers' models."""
