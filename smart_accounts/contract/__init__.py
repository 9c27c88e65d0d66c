"""What crosses a wire: names, messages and the rules of their fields."""
