"""What a build of a manifest leaves."""
