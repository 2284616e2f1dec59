"""GroundThink, the hybrid of research note "document 001": G layers write a delta-rule memory, S layers read it."""
