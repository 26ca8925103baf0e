"""What plugs into other frameworks: Django and Flower."""
