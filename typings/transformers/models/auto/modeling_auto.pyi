from typing import Any

MODEL_FOR_MASKED_LM_MAPPING_NAMES: Any
