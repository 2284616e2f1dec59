"""Where and with what the audit looks: lengths, places, contents, and how much of a change is rounding."""
