"""What an architecture must keep besides being sound, a file for each kind of promise."""
