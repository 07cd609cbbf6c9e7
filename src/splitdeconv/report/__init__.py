"""From records to files for people. Nothing here measures; matplotlib and jinja2 are imported when they are used."""
