"""What goes on inside a model, looked at from outside: its stream, its states, its gradients."""
