"""The rules that come along, one YAML file each."""
