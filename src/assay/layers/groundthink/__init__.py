"""The GroundThink families: mixers that write what retrieval layers read."""
