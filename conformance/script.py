def write(folder, check, again):
    return None
