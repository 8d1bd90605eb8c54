-- What receivers are told of a message besides its data, one JSON object; NULL for nothing.
ALTER TABLE messages ADD COLUMN attributes BLOB;
