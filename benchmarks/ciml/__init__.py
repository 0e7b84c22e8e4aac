"""Where the lesion is: CIML compared with other networks, the content of its messages, its training speed."""
