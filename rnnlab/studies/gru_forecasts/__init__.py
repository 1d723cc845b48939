"""What two gated units have learned of a planar field, seed by seed (Jordan et al. 2019, section 5)."""
