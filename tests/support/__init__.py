"""What tests share: free ports, process fixtures, the time factor, tool checks."""
