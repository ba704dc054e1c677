-- From version 2 to 3; schema.sql does the rest.
ALTER TABLE jobs ADD COLUMN tags TEXT;
