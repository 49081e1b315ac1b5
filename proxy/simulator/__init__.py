"""FLOOR 2. A simulated OpenAI upstream for demo mode; it says so in every answer."""
