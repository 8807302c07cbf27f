# For pyright alone: transformers lists its thousands of classes in one module, which takes as long
# to read as a third of crsweep to check. What crsweep takes of it decides its types at run time.
from typing import Any

AutoConfig: Any
AutoModel: Any
AutoModelForCausalLM: Any
AutoModelForSequenceClassification: Any
AutoTokenizer: Any

def __getattr__(name: str) -> Any: ...
