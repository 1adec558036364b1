"""What classifies: an exported file in the runtime it was made for, or a finished run."""
