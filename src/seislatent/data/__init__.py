"""Where records come from: data sets and synthetics."""
