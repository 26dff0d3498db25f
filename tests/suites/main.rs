mod store_http;
