"""A training job as one typed value, from YAML files."""
