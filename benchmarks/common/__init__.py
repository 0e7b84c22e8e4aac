"""Code that several subjects share: folders, tables, statistics, patients, servers, damaged copies."""
