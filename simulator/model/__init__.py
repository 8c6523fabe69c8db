"""What a model is: its layers, its parameters, its KV cache; read from a Hugging Face config.json."""
