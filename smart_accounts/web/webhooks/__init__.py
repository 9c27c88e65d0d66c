"""The pages for webhooks: endpoints, their secrets and their deliveries."""
