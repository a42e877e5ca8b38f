"""Migrations of the shared schema `lathe`: what the tables of every service use."""
